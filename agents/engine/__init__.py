"""All work on the Docker engine and the host broker: plain typed Python, no Django, no request, no settings."""
