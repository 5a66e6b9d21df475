"""The only asyncio and the only sockets: speakers in, frames out, the page and the metrics beside them."""
