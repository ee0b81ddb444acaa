"""The maths of diffusion: noise paths, schedules, solvers and the one denoising loop. Torch only."""
