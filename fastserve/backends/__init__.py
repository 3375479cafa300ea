"""Files to loaded models, loaded models to answers. See base.py for the contract and table.py for who is there."""
