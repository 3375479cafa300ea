"""Reading what a request names by URL, where the operator allows it: off unless `[data_url] allow` names something."""
