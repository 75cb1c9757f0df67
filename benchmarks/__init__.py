"""How near qmodal comes to what a bare socket can do on the same server, in the same minute."""
