"""Training: one readable script per task, on one loop."""
