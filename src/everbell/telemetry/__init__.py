"""What the program tells about itself, and the one place that reads clock and chance."""
