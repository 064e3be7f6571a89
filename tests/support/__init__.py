"""What the integration, client and oracle tests stand on: a RESP client, a server to start and stop, a runner."""
