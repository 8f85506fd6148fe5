from scorehmr_jax.commands.main import main

main()
