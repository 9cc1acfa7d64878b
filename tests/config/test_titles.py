"""The name of a run identifies its data, for every SPEC."""

import pytest
from ml_collections import ConfigDict

from alignment_jax.config.titles import data_name, use_data


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("pairs:my_pairs.csv", "my_pairs.csv"),
        ("pairs:/home/me/birds/captions.csv", "birds/captions.csv"),
        ("embeddings:/latents.npz", "latents.npz"),
        ("embeddings:runs/shards/", "shards"),
        ("karpathy:COCO", "COCO"),
        ("epic:EPIC-KITCHENS-100,features=RGB+Flow", "EPIC-KITCHENS-100"),
        ("pairs:my,odd,name.csv", "my,odd,name.csv"),
        ("tfds:aligned_flickr8k,data_dir=prepared/here", "aligned_flickr8k"),
        ("synthetic", "synthetic data"),
        ("synthetic:train=600,val=100", "synthetic data"),
    ],
)
def test_names_of_data(spec, name):
    assert data_name(spec) == name


def test_the_part_that_is_not_the_data_stays():
    config = ConfigDict({"name": "Digits, curriculum, weak audio", "data": "av:x.csv"})
    use_data(config, "")
    assert (config.name, config.data) == ("Digits, curriculum, weak audio", "av:x.csv")
    use_data(config, "av:mine.csv")
    assert (config.name, config.data) == ("mine.csv, curriculum, weak audio", "av:mine.csv")
    config.name = "experiment"
    use_data(config, "av:mine.csv")
    assert config.name == "mine.csv"
