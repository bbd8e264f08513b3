"""What a run shows: metrics, warnings in words, previews, plots
and report.html."""
