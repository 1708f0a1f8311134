"""The servers that are compared, this hub and its peers, one file each."""
