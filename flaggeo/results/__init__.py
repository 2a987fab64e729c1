"""What was found: tables that are saved and loaded, all or nothing."""
