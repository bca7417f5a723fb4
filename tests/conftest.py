"""One thread and no model hub. Downloads are shared with the user's own cache."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("POLARS_MAX_THREADS", "2")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

pytest_plugins = ["golden_option"]
