"""The playground's verbs. What people see of them, nothing that decides."""
