"""The command line. It speaks the REST API: to a server, or to the application in-process."""
