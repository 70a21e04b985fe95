"""What clients set, and what is wrong from where they sit."""
