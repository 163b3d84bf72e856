"""Executing commands: a blocking and an asyncio transport over the same endpoints."""
