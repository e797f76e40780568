"""What makes the manual from the repository; `mkdocs.yml` names the hooks."""
