"""The studio: mvguide in the browser of this machine. Needs the extra ``studio`` (gradio)."""
