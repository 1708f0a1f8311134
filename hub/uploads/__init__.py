"""Uploads: from a request to a verified file. The rules are pure; what acts on the log and the object store is named so."""
