"""What is known of the Redis servers themselves: whether they answer, suit, and kept what they acknowledged."""
