from scorehmr_jax.cli import main

main()
