"""What each precision of a student costs and keeps."""
