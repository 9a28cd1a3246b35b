"""Moving a study: to another database, or with all that belongs to it to another workspace."""
