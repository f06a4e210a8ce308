"""What the program costs, measured against the least that the system itself can do. No part of the tests."""
