defmodule Demo.Repo.Migrations.CreateNotes do
  use Ecto.Migration

  def change do
    create table(:notes) do
      add :text, :string, null: false
      timestamps()
    end
  end
end
