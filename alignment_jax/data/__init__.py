"""Data sets of paired modalities: SPEC string -> splits -> batches of arrays."""

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.data.array_formats import write_safetensors
from alignment_jax.data.audio import AudioColumn, log_mel
from alignment_jax.data.class_labels import absent_class_notes, class_notes, few_samples, with_label_names
from alignment_jax.data.clusters import (
    ClusterSizes,
    assigned_sizes,
    caption_features,
    class_counts,
    cluster_sizes,
    cluster_sizes_in_blocks,
    mean_by_item,
)
from alignment_jax.data.columns import ArrayColumn, ImageColumn, TextColumn
from alignment_jax.data.corruptions import (
    IMAGE_NOISES,
    WORD_NOISES,
    corrupt_captions,
    corrupt_image,
    vocabulary,
)
from alignment_jax.data.describe import describe, format_column, format_description, problems
from alignment_jax.data.duplicate_counts import count_duplicates, duplicates_note
from alignment_jax.data.embedded_files import embedding_record, is_embedded, read_embedded
from alignment_jax.data.frames import FrameColumn
from alignment_jax.data.frequencies import class_histogram, cluster_histogram
from alignment_jax.data.loader import TrainLoader, iterate_items, padded_rows
from alignment_jax.data.mismatch import mismatch
from alignment_jax.data.missing_modalities import complete_samples, missing_notes
from alignment_jax.data.one_modality import OneSide, is_one_side, load_one_side
from alignment_jax.data.pixel_range import with_pixel_range
from alignment_jax.data.prompts import Prompts, load_prompts
from alignment_jax.data.shard_writer import ShardWriter
from alignment_jax.data.shards import ShardedArray, StoredTextColumn
from alignment_jax.data.sources import SOURCES
from alignment_jax.data.sources.embeddings import save as save_embeddings
from alignment_jax.data.spec import load
from alignment_jax.data.split import Column, PairSource, PairSplit, content_groups, with_splits
from alignment_jax.data.split_fingerprints import fingerprints
from alignment_jax.data.thumbnails import small_images, thumbnails
from alignment_jax.data.tokenizer import Tokenizer, caption_texts, encode_texts, train_tokenizer
from alignment_jax.data.transforms import Transform, eval_image, train_image
from alignment_jax.data.validation import check_files
from alignment_jax.data.vector_files import write_npy_files, write_parquet_files

__all__ = [
    "IMAGE_NOISES",
    "SOURCES",
    "WORD_NOISES",
    "ArrayColumn",
    "AudioColumn",
    "ClusterSizes",
    "Column",
    "FrameColumn",
    "ImageColumn",
    "OneSide",
    "PairSource",
    "PairSplit",
    "Prompts",
    "ShardWriter",
    "ShardedArray",
    "StoredTextColumn",
    "TextColumn",
    "Tokenizer",
    "TrainLoader",
    "Transform",
    "absent_class_notes",
    "assigned_sizes",
    "caption_features",
    "caption_texts",
    "check_files",
    "class_counts",
    "class_histogram",
    "class_notes",
    "cluster_histogram",
    "cluster_sizes",
    "cluster_sizes_in_blocks",
    "complete_samples",
    "content_groups",
    "corrupt_captions",
    "corrupt_image",
    "count_duplicates",
    "describe",
    "duplicates_note",
    "embedding_record",
    "encode_texts",
    "eval_image",
    "few_samples",
    "fingerprints",
    "format_column",
    "format_description",
    "is_embedded",
    "is_one_side",
    "iterate_items",
    "load",
    "load_one_side",
    "load_prompts",
    "log_mel",
    "mean_by_item",
    "mismatch",
    "missing_notes",
    "padded_rows",
    "problems",
    "read_embedded",
    "save_embeddings",
    "small_images",
    "thumbnails",
    "train_image",
    "train_tokenizer",
    "vocabulary",
    "with_label_names",
    "with_pixel_range",
    "with_splits",
    "write_npy_files",
    "write_parquet_files",
    "write_safetensors",
]

__getattr__ = renamed_names(__name__, {"repeats": "count_duplicates", "repeats_line": "duplicates_note"})
