"""What our service does when it is overloaded, killed, ended, fed nonsense, swapped, or left alone for an hour."""
