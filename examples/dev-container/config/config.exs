import Config

config :demo, ecto_repos: [Demo.Repo]
config :demo, Demo.Repo, url: System.get_env("DATABASE_URL")
