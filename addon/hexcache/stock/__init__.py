"""What is stored, looked at: completeness, advisories, archives."""
