"""The model card of an adapter."""

from .manifest import Manifest


def model_card(manifest: Manifest) -> str:
    """README.md of an adapter."""
    lines = [
        "# A genrec adapter",
        "",
        f"Backbone: {manifest.backbone.model}, {manifest.backbone.blocks} of {manifest.backbone.total_blocks} blocks.",
        "",
    ]
    for name, tasks in manifest.tasks.items():
        lines.append(f"- {name}: {', '.join(tasks)}")
    if manifest.metrics:
        lines += ["", "Measured on the held-out test part:", "", "| metric | value |", "|---|---|"]
    lines += [
        f"| {k} | {v:.4f} |"
        for k, v in manifest.metrics.items()
        if k.endswith(("@10", "/rmse", "/mae", "/auc", "/accuracy", "/macro_f1", "/n"))
    ]
    return "\n".join(lines) + "\n"
