"""Small networks trained many seeds at a time: where alignment comes from, one cause switched off at a time."""
