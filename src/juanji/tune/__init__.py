"""Fine-tuning: a pretrained network made into a classifier of one's own pictures."""
