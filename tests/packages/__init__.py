"""What a release consists of: sdist and wheel."""
