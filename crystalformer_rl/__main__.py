from crystalformer_rl.cli import main

main()
