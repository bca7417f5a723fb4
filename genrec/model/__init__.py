"""What is trained and runs forward."""
