"""Templates: tasks in the making. Their files, their inputs, and the sandbox in which hostile ones are rendered."""
