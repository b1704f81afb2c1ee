"""What XLA makes of the losses for a GPU that is not here."""
