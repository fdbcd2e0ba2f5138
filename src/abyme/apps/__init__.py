"""What people and programs meet: the command line, later servers and a viewer."""
