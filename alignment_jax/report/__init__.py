"""Logs, progress, tables, charts and HTML pages of runs; the pages work offline."""

from alignment_jax.core.deprecation import renamed_names
from alignment_jax.core.jsonl import append_row, read_rows
from alignment_jax.core.storage import (
    json_ready,
    open_atomic,
    write_bytes_atomic,
    write_json_atomic,
    write_npz_atomic,
    write_text_atomic,
)
from alignment_jax.report.blocks import bullet_list, key_value_table, page, picture, section
from alignment_jax.report.chance import chance_recall
from alignment_jax.report.charts import Chart, Series, learning_curves, series_of
from alignment_jax.report.comparison_page import write_comparison
from alignment_jax.report.comparison_runs import Comparison, MeanStd, mean_std
from alignment_jax.report.comparison_tables import equivalence_note, equivalent_methods
from alignment_jax.report.data_page import DataSample, write_data_page
from alignment_jax.report.energy import EnergyMeter
from alignment_jax.report.environment import environment
from alignment_jax.report.fusion_tables import fusion_sentence, fusion_sentences, fusion_table, learning_table
from alignment_jax.report.gallery import Gallery, gallery_html, load_gallery, save_gallery
from alignment_jax.report.hits_page import ShownHit, write_hits_page
from alignment_jax.report.learning_speed import learning_speed
from alignment_jax.report.machine import format_bytes, format_seconds, host_memory, parse_bytes, peak_host_memory
from alignment_jax.report.metric_names import as_percent, is_percent, metric_label, metrics_line
from alignment_jax.report.metric_writers import METRIC_WRITERS, MetricWriter, writers_of
from alignment_jax.report.metrics_log import MetricsLog, read_metrics
from alignment_jax.report.model_card import UNKNOWN as UNKNOWN_LICENSE
from alignment_jax.report.model_card import model_card
from alignment_jax.report.pictures import data_url, encode_picture
from alignment_jax.report.plots import draw_chart
from alignment_jax.report.progress import Progress, append_to_log
from alignment_jax.report.rendering import escape
from alignment_jax.report.run_page import best_row, write_report
from alignment_jax.report.tables import Cell, Table, metrics_table, table, to_html, to_markdown, to_plain
from alignment_jax.report.tensorboard import TensorBoardLog
from alignment_jax.report.wandb_log import WandbLog
from alignment_jax.report.weight_shift import weight_shift

__all__ = [
    "METRIC_WRITERS",
    "UNKNOWN_LICENSE",
    "Cell",
    "Chart",
    "Comparison",
    "DataSample",
    "EnergyMeter",
    "Gallery",
    "MeanStd",
    "MetricWriter",
    "MetricsLog",
    "Progress",
    "Series",
    "ShownHit",
    "Table",
    "TensorBoardLog",
    "WandbLog",
    "append_row",
    "append_to_log",
    "as_percent",
    "best_row",
    "bullet_list",
    "chance_recall",
    "data_url",
    "draw_chart",
    "encode_picture",
    "environment",
    "equivalence_note",
    "equivalent_methods",
    "escape",
    "format_bytes",
    "format_seconds",
    "fusion_sentence",
    "fusion_sentences",
    "fusion_table",
    "gallery_html",
    "host_memory",
    "is_percent",
    "json_ready",
    "key_value_table",
    "learning_curves",
    "learning_speed",
    "learning_table",
    "load_gallery",
    "mean_std",
    "metric_label",
    "metrics_line",
    "metrics_table",
    "model_card",
    "open_atomic",
    "page",
    "parse_bytes",
    "peak_host_memory",
    "picture",
    "read_metrics",
    "read_rows",
    "save_gallery",
    "section",
    "series_of",
    "table",
    "to_html",
    "to_markdown",
    "to_plain",
    "weight_shift",
    "write_bytes_atomic",
    "write_comparison",
    "write_data_page",
    "write_hits_page",
    "write_json_atomic",
    "write_npz_atomic",
    "write_report",
    "write_text_atomic",
    "writers_of",
]

__getattr__ = renamed_names(
    __name__,
    {
        "Shown": "DataSample",
        "Spread": "MeanStd",
        "facts": "key_value_table",
        "same_as": "equivalence_note",
        "same_methods": "equivalent_methods",
        "spread": "mean_std",
    },
)
