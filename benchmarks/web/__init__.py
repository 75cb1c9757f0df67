"""One FastAPI app under uvicorn and through a gateway, at the same load in alternating rounds."""
