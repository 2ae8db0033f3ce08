"""Audio files to log-Mel arrays to records. A leaf: no Beam here; TensorFlow only in records.py."""
