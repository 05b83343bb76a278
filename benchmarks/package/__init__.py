"""What serving takes: disk, seconds to the first answer, memory."""
