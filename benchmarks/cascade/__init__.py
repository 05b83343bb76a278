"""What a cascade saves, and how well it keeps what it promises."""
