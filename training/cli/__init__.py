"""The training wing's verbs. What people see of them, nothing that decides."""
