"""What a model is trained on (losses) and how (one loop, for every model and every tuning method)."""
