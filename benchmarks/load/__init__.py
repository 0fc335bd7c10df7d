"""Load: many watches, many webhooks, a Prometheus that answers grouped queries; everything on loopback."""
