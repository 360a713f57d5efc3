"""Object stores: a folder that replicas share, and S3."""
