"""Old names work for one version and name their replacement."""

import numpy as np
import pytest

from alignment_jax import metrics, similarity
from alignment_jax.core.deprecation import renamed_keywords


def test_an_old_keyword_works_and_names_the_new_one():
    eye = np.eye(2, dtype=np.float32)
    with pytest.warns(DeprecationWarning, match="b_to_a"):
        found = metrics.retrieval_recall(eye, eye, a_of_b=np.arange(2))
    assert (
        found == metrics.retrieval_recall(eye, eye, np.arange(2)) == metrics.retrieval_recall(eye, eye, b_to_a=[0, 1])
    )


def test_old_and_new_keyword_together_are_an_error():
    @renamed_keywords(old="new")
    def function(new):
        return new

    with pytest.raises(TypeError, match="old"):
        function(old=1, new=1)
    with pytest.raises(TypeError, match="new"), pytest.warns(DeprecationWarning, match="new"):
        function(1, old=1)


def test_an_old_class_name_works_and_names_the_new_one():
    with pytest.warns(DeprecationWarning, match="Implementation"):
        assert similarity.Form is similarity.Implementation
    with pytest.warns(DeprecationWarning, match="Implementation"):
        from alignment_jax.similarity.form import Form
    assert Form is similarity.Implementation
    with pytest.raises(AttributeError, match="Shape"):
        similarity.Shape  # noqa: B018
