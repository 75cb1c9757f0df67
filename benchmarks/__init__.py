"""qmodal beside other Python queues and a bare socket: same server, same minutes, same work."""
