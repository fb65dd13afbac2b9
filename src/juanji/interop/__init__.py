"""Files: saved states and whole trained models, with how their pictures are made into inputs."""
