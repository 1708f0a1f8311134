"""A set-up for Prometheus and Grafana: scraping, alerts, dashboards."""
