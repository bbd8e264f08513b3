"""The table of held-out metrics, as lines of text."""
from gan.evaluation.held_out import DIGITS

ROW_LABELS = {"reconstruction_a": "A reconstructed", "reconstruction_b": "B reconstructed",
              "swap_ab": "A swapped to B, against ground truth", "baseline_ab": "    baseline: A unchanged",
              "swap_ba": "B swapped to A, against ground truth", "baseline_ba": "    baseline: B unchanged",
              "generated_ab": "A swapped to B, crop", "generated_ba": "B swapped to A, crop",
              "composite_ab": "A swapped to B, composite", "composite_ba": "B swapped to A, composite",
              "real_a": "    real faces of A", "real_b": "    real faces of B",
              "occluded_a": "A reconstructed, with an occluder", "occluded_b": "B reconstructed, with an occluder"}
COLUMN_LABELS = {"psnr": "PSNR dB", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "sharpness": "sharp", "variety": "variety",
                 "color_error": "color", "seam_error": "seam", "frechet": "Frechet", "similarity": "target",
                 "similarity_other": "other", "recognized": "recogn.", "yaw_error": "yaw", "pitch_error": "pitch",
                 "roll_error": "roll", "eyes_error": "eyes", "mouth_error": "mouth", "width_error": "width",
                 "hole_iou": "IoU"}
# The sections of the table: heading, prefixes of its rows, metrics.
SECTIONS = (("held-out faces", ("reconstruction_", "swap_", "baseline_", "generated_"),
             ("psnr", "ssim", "ms_ssim", "sharpness", "variety", "color_error")),
            ("similarity to the person", ("reconstruction_", "generated_", "composite_", "real_"),
             ("similarity", "similarity_other", "recognized", "frechet", "seam_error")),
            ("pose error (deg), expression error (%)", ("reconstruction_", "composite_"),
             ("yaw_error", "pitch_error", "roll_error", "eyes_error", "mouth_error", "width_error")),
            ("occluders left out of the mask", ("occluded_",), ("hole_iou",)))


def metrics_table(metrics):
    """Format held-out metrics as lines of text, at most 100 columns wide."""
    lines = []
    for heading, prefixes, columns in SECTIONS:
        if not any(name.startswith(prefixes) for name in metrics):
            continue
        lines.append(f"{heading:38}" + "".join(f"{COLUMN_LABELS[key]:>9}" for key in columns))
        for name, block in metrics.items():
            if name.startswith(prefixes):
                lines.append(f"{ROW_LABELS[name]:38}" + "".join(
                    f"{cell(key, block[key]) if key in block else '':>9}" for key in columns))
    return lines


def cell(name, value):
    """Format the value of a metric; "-" for None: there are too few faces."""
    if value is None:
        return "-"
    return f"{value:.0%}" if name == "recognized" else f"{value:.{min(DIGITS[name], 3)}f}"
