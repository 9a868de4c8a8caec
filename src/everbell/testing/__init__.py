"""What tests of Everbell, and of its extensions, build on."""
