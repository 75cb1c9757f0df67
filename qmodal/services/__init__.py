"""Further processes beside workers and the autoscaler: the gateways of web functions, and the control plane."""
